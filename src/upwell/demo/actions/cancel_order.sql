-- The customer thinks better of it: payment voided, goods back on the shelf.
with cancelled as (
    update orders set status = 'cancelled', updated_at = now()
    where id = %(order)s and status in ('placed', 'paid')
    returning id
),
voided as (
    update payments set voided_at = now()
    from cancelled
    where payments.order_id = cancelled.id and payments.voided_at is null
    returning payments.id
),
shelf as (
    update products set stock = products.stock + line.quantity, updated_at = now()
    from cancelled join order_items as line on line.order_id = cancelled.id
    where products.id = line.product_id
    returning products.id
)
select
    (select count(*) from cancelled)
    + (select count(*) from voided)
    + (select count(*) from shelf) as changes
