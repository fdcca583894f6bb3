-- The parcel leaves.
with shipped as (
    update orders set status = 'shipped', updated_at = now()
    where id = %(order)s and status = 'paid'
    returning id
)
select count(*) as changes from shipped
