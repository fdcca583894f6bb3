-- The shapes of models whose maintenance is checked: text; then, after "-->", each node and how it
-- is kept fresh. Every shape is planned and also run against DuckDB on random changes.

-- tables
create table shop.customers (id bigint primary key, region varchar);
create table shop.products (id bigint primary key, category varchar, price decimal(10, 2));
create table shop.orders (
  id bigint primary key, customer_id bigint, placed_at timestamptz, status varchar
);
create table shop.items (
  order_id bigint, line integer, product_id bigint, quantity integer, amount decimal(10, 2),
  weight double, primary key (order_id, line)
);
create table shop.clicks (page varchar, customer_id bigint, seconds integer, session uuid);

-- projection
select id, upper(status) as status, customer_id + 1 as next from shop.orders
--> projection: incremental, kept, key id

-- bag_projection
select category, price * 2 as double_price from shop.products
--> bag_projection: incremental, kept

-- bag_filter
select page, seconds from shop.clicks where seconds > 1
--> bag_filter: incremental, kept

-- all_columns
select * exclude (status) from shop.orders where status <> 'cancelled'
--> all_columns: incremental, kept, key id

-- join_on_key
select i.order_id, i.line, o.placed_at, i.amount
from shop.items i join shop.orders o on o.id = i.order_id
--> join_on_key: incremental, kept, key order_id, line

-- four_way_join
select i.order_id, i.line, o.placed_at, c.region, p.category, i.quantity * p.price as worth
from shop.items i
join shop.orders o on o.id = i.order_id
join shop.customers c on c.id = o.customer_id
join shop.products p on p.id = i.product_id
where o.status is distinct from 'cancelled'
--> four_way_join: incremental, kept, key order_id, line

-- bag_join
select c.region, k.page from shop.clicks k join shop.customers c on c.id = k.customer_id
--> bag_join: incremental, kept

-- cross_join
select c.region, p.category from shop.customers c, shop.products p where c.id <> p.id
--> cross_join: incremental, kept

-- null_safe_join
select a.id, b.id as other
from shop.orders a join shop.orders b on a.customer_id is not distinct from b.customer_id
--> null_safe_join: incremental, kept, key id, other

-- self_join_pairs
select a.product_id as one, b.product_id as other, count(*) as together
from shop.items a join shop.items b on a.order_id = b.order_id and a.line < b.line
group by 1, 2
--> self_join_pairs: incremental, kept

-- lines
select order_id, product_id, quantity as units, amount as net from shop.items
union all
select id, customer_id, 0, -1.5 from shop.orders
union all
(select customer_id, seconds, seconds, 2 from shop.clicks)
--> lines: incremental, kept

-- order_categories
select o.id as order_id, o.placed_at, c.region, p.category, sum(l.units) as units,
       sum(l.net) as net
from lines l
join shop.orders o on o.id = l.order_id
join shop.products p on p.id = l.product_id
join shop.customers c on c.id = o.customer_id
where o.status <> 'cancelled'
group by all
--> order_categories: incremental, kept

-- by_region
select region, category, sum(net) as net, count(distinct order_id) as orders,
       avg(units) as mean_units, count(*) as rows, count(net) as priced
from order_categories group by region, category
--> by_region/rows: incremental, view
--> by_region/distinct order_id: incremental, kept
--> by_region: incremental, kept

-- several_distincts
select p.category, count(distinct i.order_id) as orders, count(distinct i.quantity) as sizes,
       sum(distinct i.quantity) as sum_of_sizes, avg(distinct i.amount) as mean_price,
       sum(i.amount) as amount, count(*) as n
from shop.items i, shop.products p where p.id = i.product_id group by p.category
--> several_distincts/rows: incremental, view
--> several_distincts/distinct order_id: incremental, kept
--> several_distincts/distinct quantity: incremental, kept
--> several_distincts/distinct amount: incremental, kept
--> several_distincts: incremental, kept

-- expressions
select date_trunc('day', placed_at) as day,
       round(sum(i.amount) / nullif(count(*), 0), 2) as mean,
       case when sum(i.quantity) > 3 then 'many' else 'few' end as size,
       sum(i.amount) - sum(i.quantity) as odd, all_customers.n
from shop.items i join shop.orders o on o.id = i.order_id,
     (select count(*) as n from shop.customers) all_customers
group by all
--> expressions/all_customers: incremental, kept
--> expressions: incremental, kept

-- filtered_aggregates
select status, count(*) filter (where customer_id > 2) as some,
       sum(customer_id) filter (where id % 2 = 0) as even,
       count(distinct customer_id) filter (where id % 2 = 1) as odd_customers
from shop.orders group by status
--> filtered_aggregates/rows: incremental, view
--> filtered_aggregates/distinct values: incremental, kept
--> filtered_aggregates: incremental, kept

-- hidden_group
select sum(amount) as amount from shop.items group by order_id
--> hidden_group: incremental, kept

-- frequent
select customer_id, count(*) as n from shop.orders
group by customer_id having count(*) > 1 and sum(id) is not null
--> frequent: incremental, kept

-- totals
select count(*) as n, sum(quantity) as units, avg(amount) as mean,
       count(distinct product_id) as products
from shop.items
--> totals/rows: incremental, view
--> totals/distinct product_id: incremental, kept
--> totals: incremental, kept

-- totals_of_nothing
select count(*) as n, sum(id) as ids from shop.orders where id < 0
--> totals_of_nothing: incremental, kept

-- distinct_rows
select distinct region from shop.customers
--> distinct_rows: incremental, kept

-- distinct_groups
select distinct count(*) as n from shop.orders group by customer_id
--> distinct_groups/rows: incremental, kept
--> distinct_groups: incremental, kept, key n

-- union_distinct
select customer_id as id from shop.orders union select customer_id from shop.clicks
--> union_distinct/union: incremental, view
--> union_distinct: incremental, kept

-- cte_over_cte
with spent as (
  select o.customer_id, sum(i.amount) as spent, count(distinct o.id) as orders
  from shop.orders o join shop.items i on i.order_id = o.id group by 1),
good as (select * from spent where spent > 2)
select c.region, count(*) as customers, sum(g.spent) as spent, sum(g.orders) as orders
from good g join shop.customers c on c.id = g.customer_id group by all
--> cte_over_cte/rows: incremental, view
--> cte_over_cte/distinct id: incremental, kept
--> cte_over_cte/spent: incremental, kept
--> cte_over_cte/good: incremental, view
--> cte_over_cte: incremental, kept

-- derived_table
select d.region, d.n + 1 as m
from (select region, count(*) as n from shop.customers group by region) d where d.n > 1
--> derived_table/d: incremental, kept
--> derived_table: incremental, kept

-- six_of_a_kind
select count(*) as n from shop.customers a join shop.customers b on a.id = b.id
join shop.customers c on b.id = c.id join shop.customers d on c.id = d.id
join shop.customers e on d.id = e.id join shop.customers f on e.id = f.id
where a.region = f.region
--> six_of_a_kind: incremental, kept

-- left_join
select c.id, c.region, o.id as order_id
from shop.customers c left join shop.orders o on o.customer_id = c.id
--> left_join/values of o: incremental, kept
--> left_join/c left join o: incremental, view
--> left_join: incremental, kept

-- ranked
select customer_id, n, rank() over (order by n desc) as place from frequent
--> ranked: full, kept because it uses a window function over all rows

-- extremes
select product_id, min(amount) as least, max(amount) as most, median(quantity) as middle
from shop.items group by 1
--> extremes: incremental, kept

-- float_sums
select order_id, sum(weight) as weight, avg(weight) as mean from shop.items group by 1
--> float_sums: incremental, kept, key order_id

-- over_full_refresh
select least, count(*) as n from extremes group by least
--> over_full_refresh: incremental, kept

-- subquery
select id from shop.orders where customer_id in (select customer_id from shop.clicks)
--> subquery/values of clicks: incremental, kept
--> subquery: incremental, kept, key id

-- cte_with_window
with numbered as (
  select order_id, amount, row_number() over (partition by order_id order by line) as place
  from shop.items)
select n.amount, count(*) as firsts from numbered n where n.place = 1 group by 1
--> cte_with_window/numbered: incremental, kept
--> cte_with_window: incremental, kept

-- exceptions
select id from shop.customers except select customer_id from shop.orders
--> exceptions: full, kept because it uses EXCEPT

-- recent
select status, count(*) as n from shop.orders where placed_at > now() - interval 3 hour group by 1
--> recent: full, kept because it reads the clock, so that its rows change as time passes

-- join_using
select product_id, seconds, i.amount
from shop.items i join (select product_id, count(*) as seconds from shop.items group by 1) p
using (product_id)
--> join_using/p: incremental, kept
--> join_using: incremental, kept

-- ordered
select status, count(*) as n from shop.orders group by status order by n desc
--> ordered: incremental, kept

-- by_uuid
select session, count(*) as clicks, sum(seconds) as seconds from shop.clicks group by session
--> by_uuid: incremental, kept

-- bag_of_all
select * from shop.clicks c join shop.products p on p.id = c.seconds
--> bag_of_all: incremental, kept

-- boolean_sum
select region is null as unknown, sum(c.id > 2) as high, sum(c.id * 10000000000) as big
from shop.customers c group by 1
--> boolean_sum: incremental, kept

-- conditions_over_sums
select region, count(*) > 1 or sum(id) > 5 as large, not count(*) = 2 as no_pair,
       sum(id) is null and region is null as odd
from shop.customers group by region
--> conditions_over_sums: incremental, kept

-- distinct_sessions
select page, count(distinct session) as sessions from shop.clicks group by page
--> distinct_sessions/rows: incremental, view
--> distinct_sessions/distinct session: incremental, kept
--> distinct_sessions: incremental, kept

-- constants
select 'all' as what, count(*) as n, 7 as seven from shop.orders group by what
--> constants: incremental, kept

-- union_of_everything
with all_of_them as (
  select id, 'order' as kind from shop.orders union all select id, 'customer' from shop.customers
  union all select id, category from shop.products)
select kind, id, count(*) over (partition by kind) as n from all_of_them where id > 2
--> union_of_everything/all_of_them: incremental, view
--> union_of_everything: incremental, kept

-- clock_inside
select count(*) as n, sum(d.customer_id) as ids
from (select customer_id from shop.orders where placed_at < now()) d
--> clock_inside/d: full, kept because it reads the clock, so that its rows change as time passes
--> clock_inside: incremental, kept

-- top
select id, status from shop.orders order by id desc limit 3
--> top: full, kept because it uses LIMIT

-- nested_models
select r.region, r.orders, t.n as all_rows, r.net / t.n as share
from by_region r, totals t where r.orders > 0
--> nested_models: incremental, kept

-- regular_expression
select id from shop.orders where status ~ 'p.*'
--> regular_expression: full, kept because it uses the operator ~, where only regexp_full_match() could be taken apart

-- left_join_by_key
select i.order_id, i.line, p.category, p.price * i.quantity as worth
from shop.items i left join shop.products p on p.id = i.product_id
--> left_join_by_key/i left join p: incremental, view
--> left_join_by_key: incremental, kept, key order_id, line

-- left_joins_in_a_row
select c.region, p.category, count(*) as n, sum(i.amount) as amount, count(o.id) as ordered
from shop.items i
left join shop.orders o on o.id = i.order_id and o.status <> 'cancelled'
left join shop.customers c on c.id = o.customer_id
left join shop.products p on p.id = i.product_id and i.quantity > 1
group by all
--> left_joins_in_a_row/i left join o: incremental, view
--> left_joins_in_a_row/i o left join c: incremental, view
--> left_joins_in_a_row/i o c left join p: incremental, view
--> left_joins_in_a_row: incremental, kept

-- left_join_of_a_join
select o.id, o.status, c.region, k.page
from shop.orders o join shop.customers c on c.id = o.customer_id
left join shop.clicks k on k.customer_id = c.id and k.seconds > 1
where o.status is not null
--> left_join_of_a_join/o c: incremental, view
--> left_join_of_a_join/values of k: incremental, kept
--> left_join_of_a_join/o c left join k: incremental, view
--> left_join_of_a_join: incremental, kept

-- left_join_by_range
select a.id, b.id as later
from shop.orders a left join shop.orders b
  on b.customer_id = a.customer_id and b.placed_at > a.placed_at and b.id <> 3
--> left_join_by_range/a with b: incremental, kept
--> left_join_by_range/a left join b: incremental, view
--> left_join_by_range: incremental, kept

-- left_join_of_bags
select k.page, i.amount from shop.clicks k left join shop.items i on i.quantity = k.seconds
--> left_join_of_bags/values of i: incremental, kept
--> left_join_of_bags/k left join i: incremental, view
--> left_join_of_bags: incremental, kept

-- left_join_of_bags_by_range
select k.page, i.amount from shop.clicks k left join shop.items i on i.quantity > k.seconds
--> left_join_of_bags_by_range: full, kept because it asks for partners by more than equality, of rows that no key identifies

-- left_join_null_safe
select a.id, b.page from shop.orders a
left join shop.clicks b on b.customer_id is not distinct from a.customer_id
--> left_join_null_safe/values of b: incremental, kept
--> left_join_null_safe/a left join b: incremental, view
--> left_join_null_safe: incremental, kept

-- right_join
select i.order_id, i.line, p.id, p.category
from shop.items i right join shop.products p on p.id = i.product_id
--> right_join/values of i: incremental, kept
--> right_join/p left join i: incremental, view
--> right_join: incremental, kept

-- full_join
select c.id, c.region, k.page, coalesce(c.id, k.customer_id) as who
from shop.customers c full join shop.clicks k on k.customer_id = c.id
--> full_join/values of k: incremental, kept
--> full_join/c full join k: incremental, view
--> full_join: incremental, kept

-- full_join_of_keys
select c.id, o.id as order_id, o.status
from shop.customers c full outer join shop.orders o on o.id = c.id
--> full_join_of_keys/c full join o: incremental, view
--> full_join_of_keys: incremental, kept

-- left_join_on_other_types
select i.line, c.region from shop.items i left join shop.customers c on c.id = i.line
--> left_join_on_other_types/i left join c: incremental, view
--> left_join_on_other_types: incremental, kept

-- left_join_on_sums
select c.id, coalesce(s.amount, 0) as amount
from shop.customers c
left join (select o.customer_id, sum(i.amount) as amount from shop.orders o
           join shop.items i on i.order_id = o.id group by 1) s on s.customer_id = c.id
--> left_join_on_sums/s: incremental, kept
--> left_join_on_sums/c left join s: incremental, view
--> left_join_on_sums: incremental, kept, key id

-- exists_orders
select c.id, c.region from shop.customers c
where exists (select 1 from shop.orders o where o.customer_id = c.id and o.status = 'paid')
--> exists_orders/values of o: incremental, kept
--> exists_orders: incremental, kept, key id

-- not_exists_orders
select c.id, c.region from shop.customers c
where not exists (select 1 from shop.orders o where o.customer_id = c.id)
  and c.region is not null
--> not_exists_orders/values of o: incremental, kept
--> not_exists_orders/c anti join o: incremental, view
--> not_exists_orders: incremental, kept, key id

-- exists_by_key
select k.page, k.seconds from shop.clicks k
where exists (select * from shop.customers c where c.id = k.customer_id and c.region <> 'x')
--> exists_by_key: incremental, kept

-- exists_by_range
select o.id from shop.orders o
where exists (select 1 from shop.orders b
              where b.customer_id = o.customer_id and b.placed_at < o.placed_at)
--> exists_by_range/o with b: incremental, kept
--> exists_by_range: incremental, kept, key id

-- not_exists_same_table
select id, customer_id from shop.orders
where not exists (select 1 from shop.orders later
                  where later.customer_id = orders.customer_id and later.id > orders.id)
--> not_exists_same_table/orders with later: incremental, kept
--> not_exists_same_table/orders anti join later: incremental, view
--> not_exists_same_table: incremental, kept, key id

-- exists_anything
select id from shop.customers where exists (select 1 from shop.clicks where seconds > 2)
--> exists_anything/values of clicks: incremental, kept
--> exists_anything: incremental, kept, key id

-- in_same_table
select id, status from shop.orders
where customer_id in (select customer_id from shop.orders where status = 'open')
--> in_same_table/values of orders 2: incremental, kept
--> in_same_table: incremental, kept, key id

-- in_groups
select status, count(*) as n from shop.orders
where customer_id in (select customer_id from shop.orders group by 1 having count(*) > 1)
group by status
--> in_groups/members: incremental, kept
--> in_groups: incremental, kept

-- in_union
select id from shop.customers
where id in (select customer_id from shop.clicks union select customer_id from shop.orders)
--> in_union/union: incremental, view
--> in_union/members: incremental, kept
--> in_union: incremental, kept, key id

-- not_in_keys
select id, line, order_id from (select order_id, line, order_id + line as id from shop.items)
where order_id not in (select id from shop.orders)
--> not_in_keys/_0: incremental, view
--> not_in_keys/_0 anti join orders: incremental, view
--> not_in_keys: incremental, kept, key line, order_id

-- not_in_with_nulls
select id from shop.customers where id not in (select customer_id from shop.orders)
--> not_in_with_nulls: full, kept because it uses NOT IN with values that may be NULL; NOT EXISTS has a delta

-- semi_and_anti
select o.id, c.region from shop.orders o semi join shop.items i on i.order_id = o.id
join shop.customers c on c.id = o.customer_id
anti join shop.clicks k on k.customer_id = o.customer_id
--> semi_and_anti/values of i: incremental, kept
--> semi_and_anti/o c: incremental, view
--> semi_and_anti/values of k: incremental, kept
--> semi_and_anti/o c anti join k: incremental, view
--> semi_and_anti: incremental, kept, key id

-- exists_with_joins
select c.region, count(*) as n from shop.customers c
where exists (select 1 from shop.orders o join shop.items i on i.order_id = o.id
              join shop.products p on p.id = i.product_id
              where o.customer_id = c.id and p.category = 'A')
  and not exists (select 1 from shop.clicks k where k.customer_id = c.id and k.seconds = 1)
group by 1
--> exists_with_joins/values of o i p: incremental, kept
--> exists_with_joins/c: incremental, view
--> exists_with_joins/values of k: incremental, kept
--> exists_with_joins/c anti join k: incremental, view
--> exists_with_joins: incremental, kept

-- left_join_then_exists
select o.id, c.region, k.page
from shop.orders o left join shop.customers c on c.id = o.customer_id
left join shop.clicks k on k.customer_id = c.id
where exists (select 1 from shop.items i where i.order_id = o.id)
  and (c.region is null or c.region <> 'y')
--> left_join_then_exists/o left join c: incremental, view
--> left_join_then_exists/values of k: incremental, kept
--> left_join_then_exists/o c left join k: incremental, view
--> left_join_then_exists/values of i: incremental, kept
--> left_join_then_exists: incremental, kept

-- extremes_of_joins
select date_trunc('day', o.placed_at) as day, p.category, min(i.amount) as least,
       max(i.quantity * p.price) as most, median(i.quantity) as middle, sum(i.amount) as amount,
       count(distinct o.customer_id) as customers
from shop.items i join shop.orders o on o.id = i.order_id
left join shop.products p on p.id = i.product_id
group by all
--> extremes_of_joins/i o: incremental, view
--> extremes_of_joins/i o left join p: incremental, view
--> extremes_of_joins: incremental, kept

-- having_extremes
select customer_id, max(placed_at) as latest from shop.orders
group by customer_id having min(id) < 5 and count(*) > 1
--> having_extremes: incremental, kept

-- extremes_of_everything
select min(id) as least, max(placed_at) as latest from shop.orders
--> extremes_of_everything: incremental, kept

-- last_of_each
select customer_id, arg_max(status, id) as last_status, arg_min(id, id) as first_id,
       string_agg(status, ',' order by id) as statuses, list(id order by id) as ids,
       stddev_pop(id) as spread, bool_or(status = 'paid') as paid
from shop.orders group by customer_id
--> last_of_each: incremental, kept

-- hidden_extremes
select max(amount) as most from shop.items group by order_id
--> hidden_extremes: incremental, kept

-- extremes_filtered
select product_id, max(amount) filter (where line > 0) as most,
       max(amount) filter (where line = 0) - min(amount) as odd
from shop.items group by product_id having max(quantity) is not null
--> extremes_filtered: incremental, kept

-- ranks_in_groups
select order_id, line, amount,
       rank() over (partition by order_id order by amount desc) as place,
       sum(quantity) over (partition by order_id order by line) as running,
       lag(amount, 1) over (partition by order_id order by line) as before,
       count(*) over (partition by order_id, product_id) as same
from shop.items
--> ranks_in_groups: incremental, kept, key order_id, line

-- top_of_each
select p.category, i.order_id, i.line, i.amount
from shop.items i join shop.products p on p.id = i.product_id
qualify row_number() over (partition by p.category order by i.amount desc, i.order_id, i.line) <= 2
--> top_of_each: incremental, kept, key order_id, line

-- windows_over_groups
select p.category, i.order_id, sum(i.amount) as amount,
       rank() over (partition by p.category order by sum(i.amount) desc, i.order_id) as place,
       sum(sum(i.amount)) over (partition by p.category) as of_category
from shop.items i join shop.products p on p.id = i.product_id
where i.quantity > 0
group by p.category, i.order_id having count(*) > 0
qualify place <= 2
--> windows_over_groups/grouped: incremental, kept
--> windows_over_groups: incremental, kept

-- windows_apart
select id, rank() over (partition by status order by id) as a,
       rank() over (partition by customer_id order by id) as b
from shop.orders
--> windows_apart: full, kept because it uses window functions that share no part of their PARTITION BY

-- distinct_windows
select distinct customer_id, count(*) over (partition by customer_id) as n from shop.orders
--> distinct_windows/rows: incremental, kept
--> distinct_windows: incremental, kept

-- newest_of_each
select distinct on (customer_id) customer_id, id, status
from shop.orders order by customer_id, id desc
--> newest_of_each: incremental, kept, key id

-- named_window
select id, rank() over w as place from shop.orders window w as (partition by status order by id)
--> named_window: full, kept because it uses WINDOWS

-- window_by_expression
select id, row_number() over (partition by date_trunc('hour', placed_at) order by id) as place
from shop.orders where status is not null
--> window_by_expression/by key: incremental, kept
--> window_by_expression: incremental, kept, key id

-- float_means
select p.category, avg(i.weight) as mean, sum(i.weight * i.quantity) as weight
from shop.items i join shop.products p on p.id = i.product_id group by 1
--> float_means: incremental, kept

-- above_the_mean
select i.order_id, i.line, i.amount - (select avg(amount) from shop.items) as above
from shop.items i where i.amount > (select avg(amount) from shop.items where quantity > 0)
--> above_the_mean/value: incremental, kept
--> above_the_mean/value 2: incremental, kept
--> above_the_mean: incremental, kept

-- share_of_all
select c.region, count(*) as n, (select count(*) from shop.customers) as of_all
from shop.customers c group by c.region
--> share_of_all/value: incremental, kept
--> share_of_all: incremental, kept

-- union_of_unions
select id from shop.customers union select id from shop.products union select id from shop.orders
--> union_of_unions/union 2: incremental, view
--> union_of_unions/part: incremental, kept
--> union_of_unions/union: incremental, view
--> union_of_unions: incremental, kept, key id

-- unions_in_a_union
select id from shop.customers where id in (select id from shop.products union select id from shop.orders)
union all
(select customer_id from shop.orders union select customer_id from shop.clicks)
union all
(select id from shop.products union select line from shop.items)
--> unions_in_a_union/union: incremental, view
--> unions_in_a_union/members: incremental, kept
--> unions_in_a_union/union 2: incremental, view
--> unions_in_a_union/part: incremental, kept
--> unions_in_a_union/union 3: incremental, view
--> unions_in_a_union/part 2: incremental, kept
--> unions_in_a_union: incremental, kept

-- right_join_by_row
select t1.product_id from shop.items t1 right join shop.items t2 on t1.amount = t2.amount and t1.line < t2.line
--> right_join_by_row/t2 with t1: incremental, kept
--> right_join_by_row/t2 left join t1: incremental, view
--> right_join_by_row: incremental, kept

-- last_orders
select c.region, o.status, min(o.placed_at) as first_at, max(o.placed_at) as last_at, max(o.id) as last_id,
       min(o.status) as least, count(distinct o.customer_id) as customers
from shop.orders o left join shop.customers c on c.id = o.customer_id
group by all having max(o.id) > 2
--> last_orders/o left join c: incremental, view
--> last_orders/rows: incremental, view
--> last_orders/distinct o.customer_id: incremental, kept
--> last_orders: incremental, kept

-- days
select cast(placed_at as date) as day, median(id) as middle, max(customer_id) as most
from shop.orders group by 1
--> days: incremental, kept

-- hours
select date_trunc('hour', o.placed_at) as hour, o.status, list(i.amount order by i.amount) as amounts
from shop.orders o join shop.items i on i.order_id = o.id group by all
--> hours: incremental, kept

-- groups_not_all_shown
select id, count(*) as n from shop.products group by category, id
--> groups_not_all_shown: incremental, kept, key id

-- groups_of_lists
select l.ids, count(*) as n, sum(l.customer_id) as customers
from (select customer_id, list(id % 3 order by id % 3) as ids from shop.orders group by 1) l group by 1
--> groups_of_lists/l: incremental, kept
--> groups_of_lists: incremental, kept

-- groups_of_hidden_lists
select count(*) as n
from (select customer_id, list(id % 3 order by id % 3) as ids from shop.orders group by 1) l group by l.ids
--> groups_of_hidden_lists/l: incremental, kept
--> groups_of_hidden_lists: incremental, kept

-- extremes_of_sessions
select page, min(session) as least, max(session) as most from shop.clicks group by page
--> extremes_of_sessions: incremental, kept

-- extreme_session
select max(session) as most, min(seconds) as least from shop.clicks
--> extreme_session: incremental, kept

-- union_by_name
select status, upper(status) as loud from shop.orders
union all by name select status as loud, upper(status) as status from shop.orders
union all select region, region from shop.customers
--> union_by_name/part: full, kept because it uses BY NAME with UNION
--> union_by_name: incremental, kept

-- groups_by_clock
select count(*) as n from shop.orders group by placed_at > now()
--> groups_by_clock: full, kept because it reads the clock, so that its rows change as time passes

-- groups_by_membership
select count(*) as n from shop.orders group by customer_id in (select id from shop.customers)
--> groups_by_membership: full, kept because it has a subquery inside an expression

-- constant_beside_totals
select 'clicks' as what, null as unit, count(*) as n from shop.clicks group by all
--> constant_beside_totals: incremental, kept

-- shares_of_all
select region, count(*) / (select count(*) from shop.customers) as share, (select max(id) from shop.customers) as most
from shop.customers group by all
--> shares_of_all/value: incremental, kept
--> shares_of_all/value 2: incremental, kept
--> shares_of_all: incremental, kept

-- total_of_others
select (select count(*) from shop.customers) as customers, count(*) as n from shop.clicks group by all
--> total_of_others: full, kept because it shows a subquery beside totals of all rows

-- total_beside_ranks
select id, (select count(*) from shop.clicks) as clicks, rank() over (partition by status order by id) as place from shop.orders
--> total_beside_ranks/value: incremental, kept
--> total_beside_ranks/by key: incremental, kept
--> total_beside_ranks: incremental, kept, key id, clicks

-- rows_as_values
select hash(c) as fingerprint from shop.clicks c where seconds > 0
--> rows_as_values: full, kept because it reads columns that it does not name

-- columns_by_pattern
select columns('page|seconds') from shop.clicks
--> columns_by_pattern: full, kept because it reads columns that it does not name

-- alias_like_ours
select _touched.page, median(_touched.seconds) as middle from shop.clicks _touched group by 1
--> alias_like_ours: incremental, kept

-- column_like_ours
with given as (select id as _weight, status from shop.orders)
select status, sum(_weight) as weights from given group by status
--> column_like_ours: full, kept because it names a column as hidden ones are named

-- key_like_ours
select id as _key0, rank() over (partition by customer_id + 1 order by id) as place from shop.orders
--> key_like_ours: full, kept because it names a column as hidden ones are named

-- groups_that_cannot_be_kept
select count(*) as n from shop.items group by cast(quantity as bit)
--> groups_that_cannot_be_kept: full, kept because it holds a BIT on the way, which cannot be kept

-- values_that_cannot_be_kept
select count(*) as n from (select distinct cast(quantity as bit) as bits from shop.items)
--> values_that_cannot_be_kept: full, kept because it holds a BIT on the way, which cannot be kept

-- in_pairs
select id from shop.orders where (customer_id, status) in (select (id, region) from shop.customers)
--> in_pairs: full, kept because it holds a STRUCT(BIGINT, VARCHAR) on the way, which cannot be kept

-- list_then_right_join
select o.id, i.line, p.id as product
from shop.orders o, shop.items i right join shop.products p on p.id = i.product_id
--> list_then_right_join: full, kept because it uses a RIGHT JOIN after a comma, which reads only what is behind it

-- list_then_left_join
select o.id, i.line, p.id as product
from shop.orders o, shop.items i left join shop.products p on p.id = i.product_id
--> list_then_left_join/o i: incremental, view
--> list_then_left_join/o i left join p: incremental, view
--> list_then_left_join: incremental, kept

-- join_of_three_at_once
select i.order_id, i.line, c.id as customer
from shop.items i, shop.orders o, shop.customers c
where i.order_id + o.customer_id = c.id + o.id
--> join_of_three_at_once: incremental, kept

-- cross_join_of_three
select c.region, p.category, count(*) as n
from shop.customers c cross join shop.products p cross join shop.clicks k
group by 1, 2
--> cross_join_of_three: incremental, kept

-- join_of_nothing
select c.region, sum(i.quantity) as units, count(*) as n
from shop.items i
join shop.orders o on o.id = i.order_id
join shop.customers c on c.id = o.customer_id
where 1 = 2
group by 1
--> join_of_nothing: incremental, kept

-- join_in_a_union
select i.line as n, c.region from shop.items i
join shop.orders o on o.id = i.order_id join shop.customers c on c.id = o.customer_id
union all
select i.quantity, c.region from shop.items i
join shop.orders o on o.id = i.order_id join shop.customers c on c.id = o.customer_id
union all
select i.amount, c.region from shop.items i
join shop.orders o on o.id = i.order_id join shop.customers c on c.id = o.customer_id
--> join_in_a_union: incremental, kept

-- sums_of_keys
select status, sum(id) as total, count(id) as n, min(id) as least, avg(id) as mean
from shop.orders group by 1 having sum(id) > 3
--> sums_of_keys: incremental, kept

-- sum_of_all_keys
select sum(id) as total, count(id) as n from shop.orders where status = 'paid'
--> sum_of_all_keys: incremental, kept

-- left_join_on_other_types_and_a_constant
select p.id, i.line
from shop.products p left join shop.items i on i.quantity = p.price and i.product_id = 2
--> left_join_on_other_types_and_a_constant/p with i: incremental, kept
--> left_join_on_other_types_and_a_constant/p left join i: incremental, view
--> left_join_on_other_types_and_a_constant: incremental, kept
