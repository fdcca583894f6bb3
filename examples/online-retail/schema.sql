-- The shop's invoices as the daily files give them, one row a line of an invoice.

-- Which files are in, and what was in them: a day is never loaded twice, and never half.
create table if not exists loaded_files (
    name text primary key,
    sha256 char(64) not null unique,
    lines integer not null,
    loaded_at timestamptz not null default now()
);

-- The files hold 5,268 lines that repeat another in every column: a customer's second basket of the
-- same thing, or a till that rang twice. Nothing in them tells which, so all of them are kept, and an
-- identity is their key.
create table if not exists invoice_lines (
    id bigint generated always as identity primary key,
    file text not null references loaded_files,
    invoice_no text not null,
    stock_code text not null,
    description text,
    quantity integer not null,
    invoiced_at timestamp not null, -- the clock of the shop in the United Kingdom, to the minute
    unit_price numeric(12, 3) not null, -- pounds; some prices are tenths of a penny
    customer_id integer,
    country text not null
);
