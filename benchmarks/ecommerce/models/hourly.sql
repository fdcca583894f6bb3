-- Sales an hour, category and region: sums, a count and a mean.
-- key: h, category, region
select
  date_trunc('hour', order_ts) as h, category, region,
  sum(amount) as s, sum(qty) as units, count(*) as n, avg(amount) as a
from fact
group by 1, 2, 3
