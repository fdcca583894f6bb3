-- What each sold order holds of each category, and in which state its customer lives. Revenue is the
-- price of the items; the freight that the customer paid stands beside it and is no part of it.
-- key: order_id, category
-- owner: sales

select
    o.order_id,
    o.purchased_at,
    o.state,
    o.delivery,
    p.category,
    count(*) as items,
    sum(i.price) as revenue,
    sum(i.freight) as freight
from olist.order_items i
join sold_orders o on o.order_id = i.order_id
join product_categories p on p.product_id = i.product_id
group by all
