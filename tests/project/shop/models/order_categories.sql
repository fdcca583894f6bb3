-- What each order sold per category.
-- key: order_id, category
select o.id as order_id, o.placed_at, c.region, p.category, sum(l.units) as units, sum(l.net_amount) as net_amount
from sale_lines l
join shop.orders o on o.id = l.order_id
join shop.products p on p.id = l.product_id
join shop.customers c on c.id = o.customer_id
where o.status <> 'cancelled'
group by all
