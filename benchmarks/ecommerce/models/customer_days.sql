-- What each customer bought each day.
-- key: d, customer_id
select cast(order_ts as date) as d, customer_id, count(*) as n, sum(amount) as s
from fact
group by 1, 2
