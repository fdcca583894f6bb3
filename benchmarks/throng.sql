-- Many customers at once: each order with two lines and its payment, in one statement. The lines'
-- products and the customers come as arrays, so that the database draws no lots.
with placed as (
    insert into orders (customer_id, channel)
    select customer_id, 'web'
    from unnest(%(customers)s::bigint[]) as customer_id
    returning id
),
numbered as (
    select id, row_number() over (order by id) as number from placed
),
lines as (
    select number, product_id, unit_price
    from unnest(%(orders)s::bigint[], %(products)s::bigint[], %(prices)s::numeric[])
        as line (number, product_id, unit_price)
),
sold as (
    insert into order_items (order_id, product_id, quantity, unit_price, discount)
    select numbered.id, lines.product_id, 1, lines.unit_price, 0
    from numbered join lines using (number)
),
paid as (
    insert into payments (order_id, method, amount)
    select numbered.id, 'card', sum(lines.unit_price)
    from numbered join lines using (number)
    group by numbered.id
)
select id from placed
