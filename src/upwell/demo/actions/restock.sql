-- A delivery from the supplier.
with filled as (
    update products set stock = stock + %(quantity)s, updated_at = now()
    where id = %(product)s
    returning id
)
select count(*) as changes from filled
