-- The marketplace's tables, with the keys that the files keep. Times are those of the clock in Brazil
-- on which an order was placed; the files name no zone.

create table if not exists customers (
    customer_id text primary key, -- one for each order; the person is customer_unique_id
    customer_unique_id text not null,
    zip_code_prefix text not null,
    city text not null,
    state char(2) not null
);

create table if not exists sellers (
    seller_id text primary key,
    zip_code_prefix text not null,
    city text not null,
    state char(2) not null
);

-- Two categories have no translation, and so no foreign key can hold between the next two.
create table if not exists category_names (
    category text primary key,
    english text not null
);

create table if not exists products (
    product_id text primary key,
    category text,
    photos integer,
    weight_g integer,
    length_cm integer,
    height_cm integer,
    width_cm integer
);

create table if not exists orders (
    order_id text primary key,
    customer_id text not null references customers,
    status text not null,
    purchased_at timestamp not null,
    approved_at timestamp,
    handed_to_carrier_at timestamp,
    delivered_at timestamp,
    estimated_delivery timestamp not null -- the day promised to the customer, always at midnight
);

create table if not exists order_items (
    order_id text references orders,
    item_no integer,
    product_id text not null references products,
    seller_id text not null references sellers,
    ship_by timestamp not null,
    price numeric(10, 2) not null,
    freight numeric(10, 2) not null,
    primary key (order_id, item_no)
);

create table if not exists order_payments (
    order_id text references orders,
    payment_no integer,
    payment_type text not null,
    instalments integer not null,
    amount numeric(10, 2) not null,
    primary key (order_id, payment_no)
);
