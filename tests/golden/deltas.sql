-- Models over shop.a (id, x) and shop.b (id, a_id), and the SQL that keeps them fresh when the
-- named relations change.

-- case: projection; changed: shop.a
select id, x + 1 as y from shop.a where x > 0
-- gives
SELECT "id", "y", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "a"."id" AS "id", "a"."x" + 1 AS "y", "a"._weight AS "_weight" FROM (SELECT CAST("id" AS BIGINT) AS "id", CAST("x" AS INTEGER) AS "x", _weight FROM "delta_of_shop.a") AS "a" WHERE ("a"."x" > 0)
) GROUP BY "id", "y" HAVING sum(_weight) <> 0

-- case: join with one side changed; changed: shop.b
select b.id, a.x from shop.b join shop.a on a.id = b.a_id
-- gives
SELECT "id", "x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "b"."id" AS "id", "a"."x" AS "x", "b"._weight AS "_weight" FROM (SELECT CAST("id" AS BIGINT) AS "id", CAST("a_id" AS BIGINT) AS "a_id", _weight FROM "delta_of_shop.b") AS "b", "shop"."a" AS "a" WHERE ("a"."id" = "b"."a_id")
) GROUP BY "id", "x" HAVING sum(_weight) <> 0

-- case: join with both sides changed; changed: shop.a, shop.b
select b.id, a.x from shop.b join shop.a on a.id = b.a_id
-- gives
SELECT "id", "x", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT "b"."id" AS "id", "a"."x" AS "x", "b"._weight AS "_weight" FROM (SELECT CAST("id" AS BIGINT) AS "id", CAST("a_id" AS BIGINT) AS "a_id", _weight FROM "delta_of_shop.b") AS "b", "shop"."a" AS "a" WHERE ("a"."id" = "b"."a_id")
UNION ALL
SELECT "b"."id" AS "id", "a"."x" AS "x", "a"._weight AS "_weight" FROM "shop"."b" AS "b", (SELECT CAST("id" AS BIGINT) AS "id", CAST("x" AS INTEGER) AS "x", _weight FROM "delta_of_shop.a") AS "a" WHERE ("a"."id" = "b"."a_id")
UNION ALL
SELECT "b"."id" AS "id", "a"."x" AS "x", -"b"._weight * "a"._weight AS "_weight" FROM (SELECT CAST("id" AS BIGINT) AS "id", CAST("a_id" AS BIGINT) AS "a_id", _weight FROM "delta_of_shop.b") AS "b", (SELECT CAST("id" AS BIGINT) AS "id", CAST("x" AS INTEGER) AS "x", _weight FROM "delta_of_shop.a") AS "a" WHERE ("a"."id" = "b"."a_id")
) GROUP BY "id", "x" HAVING sum(_weight) <> 0

-- case: union with a wider type; changed: shop.a
select id from shop.a union all select 1.5 from shop.b
-- gives
SELECT "id", CAST(sum(_weight) AS BIGINT) AS _weight FROM (
SELECT CAST("a"."id" AS DECIMAL(20,1)) AS "id", "a"._weight AS "_weight" FROM (SELECT CAST("id" AS BIGINT) AS "id", _weight FROM "delta_of_shop.a") AS "a"
) GROUP BY "id" HAVING sum(_weight) <> 0

-- case: sums by group; changed: shop.a
select id % 2 as odd, sum(x) as total, count(*) as n from shop.a group by 1 having count(*) > 1
-- gives
SELECT "_g0", coalesce(CAST(sum(_weight) AS BIGINT), 0) AS "_rows", coalesce(CAST(sum(_weight) FILTER (WHERE "_a0" IS NOT NULL) AS BIGINT), 0) AS "_n0", coalesce(CAST(sum(CAST("_a0" AS HUGEINT) * _weight) AS HUGEINT), 0) AS "_s0" FROM (
SELECT "a"."id" % 2 AS "_g0", "a"."x" AS "_a0", "a"._weight AS "_weight" FROM (SELECT CAST("id" AS BIGINT) AS "id", CAST("x" AS INTEGER) AS "x", _weight FROM "delta_of_shop.a") AS "a"
) GROUP BY "_g0" HAVING "_rows" <> 0 OR "_n0" <> 0 OR "_s0" <> 0
SELECT *, CASE WHEN "_n0" > 0 THEN "_s0" END AS _new1, CASE WHEN "_n0_was" > 0 THEN "_s0_was" END AS _old1, "_rows" AS _new2, "_rows_was" AS _old2, ("_rows" > 0 AND coalesce("_rows" > 1, FALSE)) AS _shows, (_rowid IS NOT NULL AND coalesce("_rows_was" > 1, FALSE)) AS _showed, (CASE WHEN "_n0" > 0 THEN "_s0" END) IS NOT DISTINCT FROM (CASE WHEN "_n0_was" > 0 THEN "_s0_was" END) AND ("_rows") IS NOT DISTINCT FROM ("_rows_was") AS _same FROM (SELECT state.rowid AS _rowid, delta."_g0", CAST(coalesce(state."_rows", 0) + delta."_rows" AS BIGINT) AS "_rows", state."_rows" AS "_rows_was", CAST(coalesce(state."_n0", 0) + delta."_n0" AS BIGINT) AS "_n0", state."_n0" AS "_n0_was", CAST(coalesce(state."_s0", 0) + delta."_s0" AS HUGEINT) AS "_s0", state."_s0" AS "_s0_was" FROM "grouped" AS delta LEFT JOIN "_upwell"."m#state" AS state ON delta."_g0" = state."_g0")

-- case: full refresh; changed: shop.a
select id, lag(x) over (order by id) as before from shop.a
-- gives
SELECT "id", "before", CAST(sum(_weight) AS BIGINT) AS _weight FROM (SELECT "id", "before", 1 AS _weight FROM (SELECT * FROM (
select id, lag(x) over (order by id) as before from shop.a
) AS given("id", "before")) UNION ALL SELECT "id", "before", -1 FROM "m") GROUP BY "id", "before" HAVING sum(_weight) <> 0
