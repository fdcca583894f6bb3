-- Every sold or refunded line, in money net of discounts; a refund counts on the day of its order.
-- owner: sales

select
    order_id,
    product_id,
    quantity as units,
    quantity * unit_price - discount as net_amount
from shop.order_items

union all

-- adding these to the lines above nets the refunds off; money goes back, goods do not, so no units
select order_id, product_id, 0, -amount
from shop.refunds
