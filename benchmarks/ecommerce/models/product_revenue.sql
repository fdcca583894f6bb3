-- Revenue of every product in every region.
-- key: region, product_id
select region, product_id, sum(amount) as rev, count(*) as n
from fact
group by 1, 2
