-- Customers a day, by way of another aggregate.
-- key: d
select d, count(*) as dc, sum(s) as s
from customer_days
group by d
