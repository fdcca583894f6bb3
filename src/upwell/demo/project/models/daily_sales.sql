-- Sales of each business day and category. An order of two categories counts once in each, so orders
-- of different categories must not be added up; the metric `orders` does it right.
-- key: day, category
-- owner: sales

select
    -- by the clock in upwell.yaml: half past midnight in London is a new day, in UTC not yet in summer
    cast(placed_at as date) as day,
    category,
    count(distinct order_id) as orders,
    sum(units) as units,
    sum(net_amount) as net_amount,
    avg(net_amount) as average_amount
from order_categories
group by all
