-- Products bought together: a self-join whose result is larger than its input.
-- key: p1, p2
select a.product_id as p1, b.product_id as p2, count(*) as n
from shop.order_items a
join shop.order_items b on a.order_id = b.order_id and a.product_id < b.product_id
group by 1, 2
