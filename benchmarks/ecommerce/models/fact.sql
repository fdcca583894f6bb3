-- Every order item with its order, customer, region and product: a join of five tables.
-- key: item_id
select
  i.item_id, i.order_id, o.order_ts, o.customer_id, c.segment, r.region, i.product_id, p.category,
  i.qty, i.qty * i.price as amount
from shop.order_items i
join shop.orders o on i.order_id = o.order_id
join shop.customers c on o.customer_id = c.customer_id
join shop.regions r on c.region_id = r.region_id
join shop.products p on i.product_id = p.product_id
