-- Somebody new opens an account.
with joined as (
    insert into customers (email, full_name, region, accepts_marketing)
    values (%(email)s, %(full_name)s, %(region)s, %(accepts_marketing)s)
    returning id
)
select 1 as changes, id from joined
