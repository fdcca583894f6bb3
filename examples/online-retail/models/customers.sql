-- What each known customer has bought and given back, and when they were first and last seen buying.
-- key: customer_id
-- owner: marketing

select
    customer_id,
    min(invoiced_at) as first_sale_at,
    max(invoiced_at) as last_sale_at,
    count(distinct case when kind = 'sale' then invoice_no end) as orders,
    sum(case when kind in ('sale', 'return', 'discount') then amount else 0 end) as net_sales
from lines
where customer_id is not null
    and kind in ('sale', 'return', 'discount')
group by all
