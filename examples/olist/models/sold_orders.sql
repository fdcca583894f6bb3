-- Orders that count as sold, with where they went and how their delivery ended. An order counts from its
-- purchase on, whatever becomes of it later, unless it is cancelled or found unavailable: then it has
-- never counted. Delivery is late when it came on a later day than the one promised.
-- key: order_id
-- owner: sales

select
    o.order_id,
    o.purchased_at,
    c.state,
    case
        when o.status <> 'delivered' or o.delivered_at is null then 'open'
        when cast(o.delivered_at as date) > cast(o.estimated_delivery as date) then 'late'
        else 'on time'
    end as delivery
from olist.orders o
join olist.customers c on c.customer_id = o.customer_id
where o.status not in ('canceled', 'unavailable')
