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
--> distinct_groups/groups: incremental, kept
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
--> left_join: full, kept because it uses a LEFT JOIN

-- ranked
select customer_id, n, rank() over (order by n desc) as place from frequent
--> ranked: full, kept because it uses a window function

-- extremes
select product_id, min(amount) as least, max(amount) as most, median(quantity) as middle
from shop.items group by 1
--> extremes: full, kept because it uses min(), which cannot be merged

-- float_sums
select order_id, sum(weight) as weight, avg(weight) as mean from shop.items group by 1
--> float_sums: full, kept because it adds up items.weight, a DOUBLE, whose sums depend on their order

-- over_full_refresh
select least, count(*) as n from extremes group by least
--> over_full_refresh: incremental, kept

-- subquery
select id from shop.orders where customer_id in (select customer_id from shop.clicks)
--> subquery: full, kept because it has a subquery inside an expression

-- cte_with_window
with numbered as (
  select order_id, amount, row_number() over (partition by order_id order by line) as place
  from shop.items)
select n.amount, count(*) as firsts from numbered n where n.place = 1 group by 1
--> cte_with_window/numbered: full, kept because it uses a window function
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
--> union_of_everything: full, kept because it uses a window function

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
