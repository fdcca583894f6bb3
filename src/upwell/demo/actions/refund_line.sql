-- Money back for one line, wholly or in part; once a line.
with refunded as (
    insert into refunds (order_id, product_id, amount, reason)
    select
        line.order_id,
        line.product_id,
        round((line.quantity * line.unit_price - line.discount) * %(share)s::numeric, 2),
        %(reason)s
    from order_items as line
    join orders on orders.id = line.order_id
    where line.order_id = %(order)s
        and line.product_id = %(product)s
        and orders.status in ('paid', 'shipped', 'delivered')
        and not exists (
            select from refunds
            where refunds.order_id = line.order_id and refunds.product_id = line.product_id
        )
    returning id
)
select count(*) as changes from refunded
