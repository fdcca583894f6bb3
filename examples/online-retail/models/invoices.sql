-- What each invoice holds of each kind of line. The few invoices whose lines were rung up over more than
-- one minute have a row for each. A quarter of all lines name no customer: they are counted, and can
-- be told apart.
-- key: invoice_no, invoiced_at, country, customer, kind
-- owner: sales

select
    invoice_no,
    invoiced_at,
    country,
    case when customer_id is null then 'unknown' else 'known' end as customer,
    kind,
    count(*) as lines,
    sum(quantity) as units,
    sum(amount) as amount
from lines
group by all
