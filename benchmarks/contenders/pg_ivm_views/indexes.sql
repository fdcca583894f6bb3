-- What joins and views look rows up by; pg_ivm makes an index of its own for the groups.
CREATE INDEX ON shop.customers (region_id);
CREATE INDEX ON shop.orders (customer_id);
CREATE INDEX ON shop.order_items (order_id);
CREATE INDEX ON shop.order_items (product_id);
CREATE INDEX ON fact (item_id);
