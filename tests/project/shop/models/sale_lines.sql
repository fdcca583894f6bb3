-- Every sold or refunded line, in money net of discounts; a refund counts on the day of its order.
select order_id, product_id, quantity as units, quantity * unit_price - discount as net_amount from shop.order_items
union all
select order_id, product_id, 0, -amount from shop.refunds
