-- Every line of every invoice with what it is. Each line is of exactly one kind, so the kinds add up
-- to all that the files hold:
--
--   sale        goods sold for money; a gift voucher is goods
--   return      goods taken back or cancelled (invoices C…); it counts on its own day, for nothing in
--               the files says which sale it takes back
--   discount    money off a whole invoice, code D
--   postage     carriage paid by the customer or given back, codes POST, DOT and C2
--   manual      entries made by hand, code M: goods without a code, corrections, both ways
--   fee         no sale at all: bank charges, a marketplace's fee, a charity's commission, samples,
--               bad debt
--   stock       goods that changed hands for nothing: lost, broken, found, given away
--
-- key: id
-- owner: sales

select
    id,
    invoice_no,
    invoiced_at,
    country,
    stock_code,
    customer_id,
    quantity,
    quantity * unit_price as amount,
    case
        when stock_code = 'D' then 'discount'
        when stock_code in ('POST', 'DOT', 'C2') then 'postage'
        when stock_code in ('M', 'm') then 'manual'
        when stock_code in ('AMAZONFEE', 'B', 'BANK CHARGES', 'CRUK', 'S') then 'fee'
        when unit_price = 0 then 'stock'
        when quantity < 0 then 'return'
        else 'sale'
    end as kind
from retail.invoice_lines
