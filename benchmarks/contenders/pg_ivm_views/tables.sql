CREATE EXTENSION pg_ivm;
CREATE SCHEMA shop;
CREATE TABLE shop.regions (region_id integer PRIMARY KEY, region text);
CREATE TABLE shop.customers (
    customer_id bigint PRIMARY KEY, region_id integer NOT NULL, name text, segment text
);
CREATE TABLE shop.products (
    product_id bigint PRIMARY KEY, name text, category text, list_price numeric(12, 2)
);
CREATE TABLE shop.orders (
    order_id bigint PRIMARY KEY, customer_id bigint NOT NULL, order_ts timestamp NOT NULL, status text
);
CREATE TABLE shop.order_items (
    item_id bigint PRIMARY KEY,
    order_id bigint NOT NULL,
    product_id bigint NOT NULL,
    qty integer,
    price numeric(12, 2)
);
CREATE TEMP TABLE changed_products (LIKE shop.products);
CREATE TEMP TABLE changed_order_items (LIKE shop.order_items);
