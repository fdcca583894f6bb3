-- What a customer has bought so far, over groups that no order of the table keeps together.
-- key: customer_id
select
  customer_id, count(distinct order_id) as norders, sum(amount) as s, max(order_ts) as last_order
from fact
group by customer_id
