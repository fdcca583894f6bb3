-- The category of each product, in English where there is a translation.
-- key: product_id
-- owner: sales

select
    p.product_id,
    replace(coalesce(n.english, p.category, 'uncategorised'), '_', ' ') as category
from olist.products p
left join olist.category_names n on n.category = p.category
