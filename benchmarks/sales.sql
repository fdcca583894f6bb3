-- A table of twelve columns of the usual types, about 230 bytes a row in the log. The pool holds
-- what will be sold; it is unlogged, so that the log has the sales alone.

-- name: tables
create table sales (
    id          bigint primary key,
    order_id    bigint not null,
    customer_id integer not null,
    sku         varchar(16) not null,
    description text,
    quantity    integer not null,
    unit_price  numeric(12, 2) not null,
    discount    double precision,
    is_gift     boolean not null,
    reference   uuid not null,
    details     jsonb not null,
    created_at  timestamptz not null
);
create unlogged table pool (like sales including all);
create publication sales for table sales;

-- name: pool
insert into pool
select
    id,
    id / 3,
    ('x' || substr(digest, 1, 7))::bit(28)::integer % 100000,
    upper(substr(digest, 8, 10)),
    case when id % 50 > 0 then 'Article ' || substr(digest, 3, 6 + id::integer % 40) || ' in a box' end,
    1 + ('x' || substr(digest, 5, 2))::bit(8)::integer % 9,
    (('x' || substr(digest, 7, 5))::bit(20)::integer / 100.0)::numeric(12, 2),
    case when id % 4 = 0 then ('x' || substr(digest, 11, 4))::bit(16)::integer / 65536.0 end,
    id % 11 = 0,
    digest::uuid,
    jsonb_build_object('colour', substr(digest, 2, 6), 'size', id % 40, 'notes', array[id % 7, id % 5]),
    timestamptz '2026-01-01 00:00+00' + id * interval '1.7 seconds'
from (select id, md5(:seed || id::text) as digest from generate_series(1, :rows) as id) as numbered;

-- name: sell
do $$ begin
    for number in 1 .. :rows by :size loop
        insert into sales select * from pool where id >= number and id < number + :size;
        commit;
    end loop;
end $$;
