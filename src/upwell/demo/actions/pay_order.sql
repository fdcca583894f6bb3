-- The customer pays what the lines come to.
with paid as (
    update orders set status = 'paid', updated_at = now()
    where id = %(order)s and status = 'placed'
    returning id
),
payment as (
    insert into payments (order_id, method, amount)
    select paid.id, %(method)s::payment_method, sum(line.quantity * line.unit_price - line.discount)
    from paid join order_items as line on line.order_id = paid.id
    group by paid.id
    returning id
)
select (select count(*) from paid) + (select count(*) from payment) as changes
