-- A day's sales with what cannot be merged: distinct customers, the least and the greatest item.
-- key: d
select
  cast(order_ts as date) as d, count(distinct customer_id) as dc,
  sum(amount) as s, min(amount) as mi, max(amount) as mx
from fact
group by 1
