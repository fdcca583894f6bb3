-- The parcel arrives.
with delivered as (
    update orders set status = 'delivered', updated_at = now()
    where id = %(order)s and status = 'shipped'
    returning id
)
select count(*) as changes from delivered
