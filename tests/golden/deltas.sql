-- Models over shop.a (id, x) and shop.b (id, a_id), and the SQL that keeps them fresh when the
-- named relations change.

-- case: projection; changed: shop.a
select id, x + 1 as y from shop.a where x > 0
-- gives
SELECT "id", "y", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "a"."id" AS "id", "a"."x" + 1 AS "y", "a"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "a" WHERE ("a"."x" > 0)
) GROUP BY "id", "y" HAVING sum(_weight) <> 0

-- case: join with one side changed; changed: shop.b
select b.id, a.x from shop.b join shop.a on a.id = b.a_id
-- gives
SELECT "id", "x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "b"."id" AS "id", "a"."x" AS "x", "b"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "b", "shop"."a" AS "a" WHERE ("a"."id" = "b"."a_id")
) GROUP BY "id", "x" HAVING sum(_weight) <> 0

-- case: join with both sides changed; changed: shop.a, shop.b
select b.id, a.x from shop.b join shop.a on a.id = b.a_id
-- gives
SELECT "id", "x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "b"."id" AS "id", "a"."x" AS "x", "b"._weight * "a"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "b", (SELECT "id", "x", CAST(1 AS BIGINT) AS _weight FROM "shop"."a" AS "a" UNION ALL SELECT "id", "x", -_weight FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a")) AS "a" WHERE ("a"."id" = "b"."a_id")
UNION ALL
SELECT "b"."id" AS "id", "a"."x" AS "x", "a"._weight AS "_weight" FROM "shop"."b" AS "b", (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "a" WHERE ("a"."id" = "b"."a_id")
) GROUP BY "id", "x" HAVING sum(_weight) <> 0

-- case: union with a wider type; changed: shop.a
select id from shop.a union all select 1.5 from shop.b
-- gives
SELECT "id", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT CAST("a"."id" AS DECIMAL(20,1)) AS "id", "a"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", _weight FROM "delta_of_shop.a") AS "a"
) GROUP BY "id" HAVING sum(_weight) <> 0

-- case: sums by group; changed: shop.a
select id % 2 as odd, sum(x) as total, count(*) as n from shop.a group by 1 having count(*) > 1
-- gives
SELECT "_g0", CAST(sum(_weight) AS BIGINT) AS "_rows", coalesce(CAST(sum(_weight) FILTER (WHERE "_a0" IS NOT NULL) AS BIGINT), 0) AS "_n0", coalesce(CAST(sum(CAST("_a0" AS HUGEINT) * _weight) AS HUGEINT), 0) AS "_s0" FROM (
SELECT "a"."id" % 2 AS "_g0", "a"."x" AS "_a0", "a"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "a"
) GROUP BY "_g0"
SELECT _rowid, "_g0", "_rows", "_n0", "_s0", CASE WHEN "_n0_was" > 0 THEN "_s0_was" END AS _old1, CASE WHEN "_n0" > 0 THEN "_s0" END AS _new1, _rows_was, ("_rows" > 0 AND coalesce("_rows" > 1, FALSE)) AS _shows, (_rowid IS NOT NULL AND coalesce("_rows_was" > 1, FALSE)) AS _showed, (CASE WHEN "_n0" > 0 THEN "_s0" END) IS NOT DISTINCT FROM (CASE WHEN "_n0_was" > 0 THEN "_s0_was" END) AND ("_rows") IS NOT DISTINCT FROM ("_rows_was") AS _same FROM (SELECT state.rowid AS _rowid, delta."_g0", CAST(coalesce(state."_rows", 0) + delta."_rows" AS BIGINT) AS "_rows", state."_rows" AS "_rows_was", CAST(coalesce(state."_n0", 0) + delta."_n0" AS BIGINT) AS "_n0", state."_n0" AS "_n0_was", CAST(coalesce(state."_s0", 0) + delta."_s0" AS HUGEINT) AS "_s0", state."_s0" AS "_s0_was" FROM (SELECT greatest("_g0", "_g0") AS "_g0", "_rows", "_n0", "_s0" FROM "grouped") AS delta LEFT JOIN "_upwell"."m#state" AS state ON delta."_g0" = state."_g0")

-- case: refreshed in full; changed: shop.a
select id, lag(x) over (order by id) as before from shop.a
-- gives
SELECT "id", "before", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "id", "before", 1 AS _weight FROM (SELECT * FROM (
select id, lag(x) over (order by id) as before from shop.a
) AS given("id", "before"))
UNION ALL
SELECT "id", "before", -1 FROM "m"
) GROUP BY "id", "before" HAVING sum(_weight) <> 0

-- case: left join with the left side changed; changed: shop.b
select b.id, a.x from shop.b left join shop.a on a.id = b.a_id
-- gives
SELECT "b.id", "a.x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "l"."id" AS "b.id", "r"."x" AS "a.x", "l"._weight AS _weight FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "l" LEFT JOIN "shop"."a" AS "r" ON ("r"."id" = "l"."a_id")
) GROUP BY "b.id", "a.x" HAVING sum(_weight) <> 0

-- case: left join with both sides changed; changed: shop.a, shop.b
select b.id, a.x from shop.b left join shop.a on a.id = b.a_id
-- gives
SELECT "b.id", "a.x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "l"."id" AS "b.id", "r"."x" AS "a.x", "l"._weight * "r"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "l", (SELECT "id", "x", CAST(1 AS BIGINT) AS _weight FROM "shop"."a" AS "r" UNION ALL SELECT "id", "x", -_weight FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a")) AS "r" WHERE ("r"."id" = "l"."a_id")
UNION ALL
SELECT "l"."id" AS "b.id", "r"."x" AS "a.x", "r"._weight AS "_weight" FROM "shop"."b" AS "l", (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "r" WHERE ("r"."id" = "l"."a_id")
UNION ALL
SELECT "l"."id" AS "b.id", CAST(NULL AS INTEGER) AS "a.x", "l"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "l"
UNION ALL
SELECT "l"."id" AS "b.id", CAST(NULL AS INTEGER) AS "a.x", -"l"._weight * "partner"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "l", (SELECT "id", CAST(1 AS BIGINT) AS _weight FROM "shop"."a" AS "partner" UNION ALL SELECT "id", -_weight FROM (SELECT greatest("id", "id") AS "id", _weight FROM "delta_of_shop.a")) AS "partner" WHERE ("partner"."id" = "l"."a_id")
UNION ALL
SELECT "l"."id" AS "b.id", CAST(NULL AS INTEGER) AS "a.x", -"partner"._weight AS "_weight" FROM "shop"."b" AS "l", (SELECT greatest("id", "id") AS "id", _weight FROM "delta_of_shop.a") AS "partner" WHERE ("partner"."id" = "l"."a_id")
) GROUP BY "b.id", "a.x" HAVING sum(_weight) <> 0

-- case: full join of keys; changed: shop.a
select b.id, a.x from shop.b full join shop.a on a.id = b.id
-- gives
SELECT "b.id", "a.x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "l"."id" AS "b.id", "r"."x" AS "a.x", "r"._weight AS "_weight" FROM "shop"."b" AS "l", (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "r" WHERE ("r"."id" = "l"."id")
UNION ALL
SELECT "l"."id" AS "b.id", CAST(NULL AS INTEGER) AS "a.x", -"partner"._weight AS "_weight" FROM "shop"."b" AS "l", (SELECT greatest("id", "id") AS "id", _weight FROM "delta_of_shop.a") AS "partner" WHERE ("partner"."id" = "l"."id")
UNION ALL
SELECT CAST(NULL AS BIGINT) AS "b.id", "r"."x" AS "a.x", "r"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "r"
UNION ALL
SELECT CAST(NULL AS BIGINT) AS "b.id", "r"."x" AS "a.x", -"r"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "r", "shop"."b" AS "partner of r" WHERE ("r"."id" = "partner of r"."id")
) GROUP BY "b.id", "a.x" HAVING sum(_weight) <> 0

-- case: anti join by key; changed: shop.a, shop.b
select b.id from shop.b anti join shop.a on a.id = b.a_id and a.x > 0
-- gives
SELECT "b.id", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "l"."id" AS "b.id", "l"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "l"
UNION ALL
SELECT "l"."id" AS "b.id", -"l"._weight * "partner"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "l", (SELECT "id", "x", CAST(1 AS BIGINT) AS _weight FROM "shop"."a" AS "partner" UNION ALL SELECT "id", "x", -_weight FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a")) AS "partner" WHERE ("partner"."id" = "l"."a_id") AND ("partner"."x" > 0)
UNION ALL
SELECT "l"."id" AS "b.id", -"partner"._weight AS "_weight" FROM "shop"."b" AS "l", (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "partner" WHERE ("partner"."id" = "l"."a_id") AND ("partner"."x" > 0)
) GROUP BY "b.id" HAVING sum(_weight) <> 0

-- case: extremes by group; changed: shop.a
select id % 2 as odd, min(x) as least, sum(x) as total from shop.a where x > 0 group by 1 having max(x) < 9
-- gives
SELECT "_g0", CAST(sum(_weight) AS BIGINT) AS "_rows", CAST(sum(CAST("_a0" AS HUGEINT) * _weight) AS HUGEINT) AS "_s0", min("_a0") FILTER (WHERE _weight > 0) AS _min0, min("_a0") FILTER (WHERE _weight < 0) AS _min0_gone, max("_a0") FILTER (WHERE _weight > 0) AS _max0, max("_a0") FILTER (WHERE _weight < 0) AS _max0_gone FROM (
SELECT "_g0", "_a0", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "a"."id" % 2 AS "_g0", "a"."x" AS "_a0", "a"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("x", "x") AS "x", _weight FROM "delta_of_shop.a") AS "a" WHERE ("a"."x" > 0)
) GROUP BY "_g0", "_a0" HAVING sum(_weight) <> 0
) GROUP BY "_g0"
SELECT _rowid, "_g0", "_rows", "_s0", "_min0", "_max0", _min0_was, _s0_was, _stale, ("_rows" > 0 AND coalesce("_max0" < 9, FALSE)) AS _shows, (_rowid IS NOT NULL AND coalesce("_max0_was" < 9, FALSE)) AS _showed, ("_min0") IS NOT DISTINCT FROM ("_min0_was") AND ("_s0") IS NOT DISTINCT FROM ("_s0_was") AS _same FROM (SELECT state.rowid AS _rowid, delta."_g0", CAST(coalesce(state."_rows", 0) + delta."_rows" AS BIGINT) AS "_rows", state."_rows" AS "_rows_was", CAST(coalesce(state."_s0", 0) + delta."_s0" AS HUGEINT) AS "_s0", state."_s0" AS "_s0_was", CAST(CASE WHEN coalesce(state."_rows", 0) + delta."_rows" > 0 THEN least(state._min0, delta._min0) END AS INTEGER) AS _min0, state._min0 AS "_min0_was", CAST(CASE WHEN coalesce(state."_rows", 0) + delta."_rows" > 0 THEN greatest(state._max0, delta._max0) END AS INTEGER) AS _max0, state._max0 AS "_max0_was", coalesce((coalesce(state."_rows", 0) + delta."_rows" > 0 AND delta._min0_gone <= state._min0 AND NOT coalesce(delta._min0 <= state._min0, FALSE)) OR (coalesce(state."_rows", 0) + delta."_rows" > 0 AND delta._max0_gone >= state._max0 AND NOT coalesce(delta._max0 >= state._max0, FALSE)), FALSE) AS _stale FROM (SELECT greatest("_g0", "_g0") AS "_g0", greatest("_min0", "_min0") AS "_min0", greatest("_min0_gone", "_min0_gone") AS "_min0_gone", greatest("_max0", "_max0") AS "_max0", greatest("_max0_gone", "_max0_gone") AS "_max0_gone", "_rows", "_s0" FROM "grouped") AS delta LEFT JOIN "_upwell"."m#state" AS state ON delta."_g0" = state."_g0")

-- case: top of each partition; changed: shop.b
select b.id, a.x from shop.b join shop.a on a.id = b.a_id qualify rank() over (partition by a.x order by b.id) = 1
-- gives
SELECT DISTINCT "_g0" AS "x" FROM (SELECT "_g0", "_v0", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "a"."x" AS "_g0", "b"."id" AS "_v0", "b"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "b", "shop"."a" AS "a" WHERE ("a"."id" = "b"."a_id")
) GROUP BY "_g0", "_v0" HAVING sum(_weight) <> 0)
SELECT "id", "x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "id", "x", 1 AS _weight FROM (SELECT "_v0" AS "id", "_g0" AS "x" FROM (SELECT "a"."x" AS "_g0", "b"."id" AS "_v0" FROM "shop"."b" AS "b", "shop"."a" AS "a", touched_keys AS _touched WHERE ("a"."id" = "b"."a_id") AND (("a"."x") = _touched."x")) AS given QUALIFY RANK() OVER (PARTITION BY "_g0" ORDER BY "_v0") = 1)
UNION ALL
SELECT stored."id", stored."x", -1 FROM "m" AS stored JOIN touched_keys AS _touched ON stored."x" = _touched."x"
) GROUP BY "id", "x" HAVING sum(_weight) <> 0

-- case: join with a condition of its own; changed: shop.a, shop.b
select b.id from shop.b join shop.a on a.id = b.a_id where a.x > 0
-- gives
SELECT "id", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "b"."id" AS "id", "b"._weight * "a"._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "id", greatest("a_id", "a_id") AS "a_id", _weight FROM "delta_of_shop.b") AS "b", (SELECT "id", CAST(1 AS BIGINT) AS _weight FROM "shop"."a" AS "a" WHERE (("a"."x" > 0)) UNION ALL SELECT "id", -_weight FROM (SELECT greatest("id", "id") AS "id", _weight FROM "delta_of_shop.a")) AS "a" WHERE ("a"."id" = "b"."a_id")
UNION ALL
SELECT "b"."id" AS "id", "a"._weight AS "_weight" FROM "shop"."b" AS "b", (SELECT greatest("id", "id") AS "id", _weight FROM "delta_of_shop.a") AS "a" WHERE ("a"."id" = "b"."a_id")
) GROUP BY "id" HAVING sum(_weight) <> 0

-- case: join of three, two of them changed; changed: shop.a
select b.id, a.x, c.x as y from shop.b join shop.a on a.id = b.a_id join shop.a c on c.id = a.x where a.x > 0
-- gives
0 a c: SELECT "a.id" AS "a.id", "a.x" AS "a.x", "c.x" AS "c.x", so_far._weight * coming0._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "a.id", greatest("x", "x") AS "a.x", _weight FROM "delta_of_shop.a") AS so_far, (SELECT "c"."id" AS "c.id", "c"."x" AS "c.x", CAST(1 AS BIGINT) AS _weight FROM "shop"."a" AS "c" UNION ALL SELECT "c.id", "c.x", -_weight FROM (SELECT greatest("id", "id") AS "c.id", greatest("x", "x") AS "c.x", _weight FROM "delta_of_shop.a")) AS coming0 WHERE ("c.id" = "a.x")
UNION ALL
SELECT "a.id" AS "a.id", "a.x" AS "a.x", "c.x" AS "c.x", so_far._weight AS "_weight" FROM (SELECT greatest("id", "id") AS "c.id", greatest("x", "x") AS "c.x", _weight FROM "delta_of_shop.a") AS so_far, (SELECT "a"."id" AS "a.id", "a"."x" AS "a.x" FROM "shop"."a" AS "a" WHERE (("a"."x" > 0))) AS coming0 WHERE ("c.id" = "a.x")
SELECT "id", "x", "y", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "b.id" AS "id", "a.x" AS "x", "c.x" AS "y", so_far._weight AS "_weight" FROM (SELECT greatest("a.id", "a.id") AS "a.id", greatest("a.x", "a.x") AS "a.x", greatest("c.x", "c.x") AS "c.x", _weight FROM "laid 0 a c") AS so_far, (SELECT "b"."id" AS "b.id", "b"."a_id" AS "b.a_id" FROM "shop"."b" AS "b") AS coming0 WHERE ("a.id" = "b.a_id")
) GROUP BY "id", "x", "y" HAVING sum(_weight) <> 0

-- case: distinct values among others; changed: shop.b
select a_id, count(distinct id) as n, sum(id) as total from shop.b group by a_id
-- gives
SELECT "_g0", CAST(sum(_weight) AS BIGINT) AS "_rows", CAST(sum(_d0) AS BIGINT) AS "_n0", coalesce(CAST(sum(CAST("_a1" AS HUGEINT) * _weight) AS HUGEINT), 0) AS "_s1" FROM (
SELECT *, 0 AS _d0 FROM (SELECT "whole"."_g0" AS "_g0", "whole"."_a1" AS "_a1", "whole"._weight AS "_weight" FROM (SELECT greatest("_g0", "_g0") AS "_g0", greatest("_a0", "_a0") AS "_a0", greatest("_a1", "_a1") AS "_a1", _weight FROM "delta_of__upwell.m/rows") AS "whole")
UNION ALL
SELECT "_g0", NULL AS "_a1", 0 AS _weight, _weight AS _d0 FROM "delta_of__upwell.m/distinct id"
) GROUP BY "_g0"
SELECT _rowid, "_g0", "_rows", "_n0", "_s1", _n0_was, _s1_was, ("_rows" > 0) AS _shows, (_rowid IS NOT NULL) AS _showed, ("_n0") IS NOT DISTINCT FROM ("_n0_was") AND ("_s1") IS NOT DISTINCT FROM ("_s1_was") AS _same FROM (SELECT state.rowid AS _rowid, delta."_g0", CAST(coalesce(state."_rows", 0) + delta."_rows" AS BIGINT) AS "_rows", state."_rows" AS "_rows_was", CAST(coalesce(state."_n0", 0) + delta."_n0" AS BIGINT) AS "_n0", state."_n0" AS "_n0_was", CAST(coalesce(state."_s1", 0) + delta."_s1" AS HUGEINT) AS "_s1", state."_s1" AS "_s1_was" FROM (SELECT greatest("_g0", "_g0") AS "_g0", "_rows", "_n0", "_s1" FROM "grouped") AS delta LEFT JOIN "_upwell"."m#state" AS state ON delta."_g0" = state."_g0")
