-- How sold orders were paid. One order can be paid in several ways, vouchers first; what was paid covers
-- price and freight, and now and then interest.
-- key: order_id, payment_no
-- owner: finance

select
    o.order_id,
    p.payment_no,
    o.purchased_at,
    o.state,
    replace(p.payment_type, '_', ' ') as payment_type,
    p.instalments,
    p.amount
from olist.order_payments p
join sold_orders o on o.order_id = p.order_id
