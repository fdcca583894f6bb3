-- What each customer has bought so far, net of refunds and without cancelled orders.
-- key: customer_id
-- owner: marketing

select
    o.customer_id,
    c.region,
    count(distinct o.id) as orders,
    sum(l.units) as units,
    sum(l.net_amount) as net_amount
from sale_lines l
join shop.orders o on o.id = l.order_id
join shop.customers c on c.id = o.customer_id
where o.status <> 'cancelled'
group by all
