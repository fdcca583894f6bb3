-- An order with its lines at today's prices; the goods leave the shelf.
with basket as (
    select
        products.id as product_id,
        line.quantity,
        products.price,
        round(products.price * line.quantity * line.discount_rate, 2) as discount
    from unnest(%(products)s::bigint[], %(quantities)s::integer[], %(discount_rates)s::numeric[])
        with ordinality as line (product_id, quantity, discount_rate, number)
    join products on products.id = line.product_id
    order by line.number
),
placed as (
    insert into orders (reference, customer_id, channel, gift_note)
    select %(reference)s::uuid, %(customer)s, %(channel)s, %(gift_note)s
    where exists (select from basket)
    returning id
),
sold as (
    insert into order_items (order_id, product_id, quantity, unit_price, discount)
    select placed.id, basket.product_id, basket.quantity, basket.price, basket.discount
    from placed cross join basket
    returning product_id
),
shelf as (
    update products
    set stock = stock - basket.quantity, updated_at = now()
    from basket
    where products.id = basket.product_id
    returning products.id, products.stock
)
select
    1 + (select count(*) from sold) + (select count(*) from shelf) as changes,
    placed.id,
    array(select shelf.id from shelf where shelf.stock < 25 order by shelf.id) as running_low
from placed
