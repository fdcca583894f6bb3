-- The ten best products of every region: a window over a model.
-- key: region, product_id
select
  region, product_id, rev,
  rank() over (partition by region order by rev desc, product_id) as rk
from product_revenue
qualify rk <= 10
