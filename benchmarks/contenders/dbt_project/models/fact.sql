{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='item_id') }}
{% set changed_at = 'greatest(i._changed_at, o._changed_at, c._changed_at, r._changed_at, p._changed_at)'
    if var('all_tables') else 'i._changed_at' %}
select
  i.item_id, i.order_id, o.order_ts, o.customer_id, c.segment, r.region, i.product_id, p.category,
  i.qty, i.qty * i.price as amount, {{ changed_at }} as _changed_at
from shop.order_items i
join shop.orders o on i.order_id = o.order_id
join shop.customers c on o.customer_id = c.customer_id
join shop.regions r on c.region_id = r.region_id
join shop.products p on i.product_id = p.product_id
{% if is_incremental() %}
where {{ changed_at }} > (select max(_changed_at) from {{ this }})
{% endif %}
