select
  date_trunc('hour', o.order_ts) as h, p.category, r.region,
  sum(i.qty * i.price) as s, sum(i.qty) as units, count(*) as n, avg(i.qty * i.price) as a
from shop.order_items i
join shop.orders o on i.order_id = o.order_id
join shop.customers c on o.customer_id = c.customer_id
join shop.regions r on c.region_id = r.region_id
join shop.products p on i.product_id = p.product_id
group by date_trunc('hour', o.order_ts), p.category, r.region
