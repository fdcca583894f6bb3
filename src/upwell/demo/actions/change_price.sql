-- A new price tag.
with tagged as (
    update products
    set price = greatest(round(price * %(factor)s::numeric, 2), 0.50), updated_at = now()
    where id = %(product)s
    returning id
)
select count(*) as changes from tagged
