-- Every hour in which a fact changed is computed anew, so that a fact may change its group.
{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='h') }}
select
  date_trunc('hour', order_ts) as h, category, region,
  sum(amount) as s, sum(qty) as units, count(*) as n, avg(amount) as a,
  max(_changed_at) as _changed_at
from {{ ref('fact') }}
{% if is_incremental() %}
where date_trunc('hour', order_ts) in (
  select date_trunc('hour', order_ts) from {{ ref('fact') }}
  where _changed_at > (select max(_changed_at) from {{ this }})
)
{% endif %}
group by 1, 2, 3
