-- Sales of each month and country, for those who ask in SQL. An invoice counts as an order when it sells
-- something.
-- key: month, country
-- owner: sales

select
    date_trunc('month', invoiced_at) as month,
    country,
    count(distinct case when kind = 'sale' then invoice_no end) as orders,
    sum(case when kind = 'sale' then amount else 0 end) as gross_sales,
    sum(case when kind = 'return' then -amount else 0 end) as returns,
    sum(case when kind in ('sale', 'return', 'discount') then amount else 0 end) as net_sales
from lines
group by all
