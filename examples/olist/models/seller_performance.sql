-- What each seller sold, and how much of what was delivered came late. An order from two sellers that
-- came late counts against both: the files do not say whose parcel it was.
-- key: seller_id
-- owner: marketplace

select
    s.seller_id,
    s.state,
    count(distinct o.order_id) as orders,
    count(distinct case when o.delivery <> 'open' then o.order_id end) as delivered,
    count(distinct case when o.delivery = 'late' then o.order_id end) as late,
    sum(i.price) as revenue,
    min(o.purchased_at) as first_sale_at,
    max(o.purchased_at) as last_sale_at
from olist.order_items i
join sold_orders o on o.order_id = i.order_id
join olist.sellers s on s.seller_id = i.seller_id
group by all
