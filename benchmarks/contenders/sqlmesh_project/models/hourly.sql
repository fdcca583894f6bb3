-- Every hour in which a fact changed is computed anew; a group that vanished stays, by its key.
MODEL (
  name shop_models.hourly,
  kind INCREMENTAL_BY_UNIQUE_KEY (unique_key (h, category, region)),
  cron '@daily'
);

select
  date_trunc('hour', order_ts) as h, category, region,
  sum(amount) as s, sum(qty) as units, count(*) as n, avg(amount) as a
from shop_models.fact
where date_trunc('hour', order_ts) in (
  select date_trunc('hour', order_ts) from shop_models.fact
  where _changed_at between @start_ts and @end_ts
)
group by 1, 2, 3
