-- What refers to what in the sample shop, and its indexes.
--
-- An order owns its items, payments and refunds: deleting it deletes them. Customers and products
-- stay as long as an order names them. A refund names a line that was sold.

alter table orders
    add foreign key (customer_id) references customers;

alter table order_items
    add unique (order_id, product_id),
    add foreign key (order_id) references orders on delete cascade,
    add foreign key (product_id) references products;

alter table payments
    add foreign key (order_id) references orders on delete cascade;

alter table refunds
    add foreign key (order_id, product_id) references order_items (order_id, product_id)
        on update cascade on delete cascade;

create index on customers (region);
create index on products (category);
create index on orders (customer_id, placed_at);
create index on orders (placed_at);
create index on order_items (product_id);
create index on payments (order_id);
create index on refunds (order_id, product_id);
