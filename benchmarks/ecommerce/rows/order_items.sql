-- Four items an order; the square makes a few products sell much and most of them little.
SELECT
    i AS item_id,
    CAST(i // 4 AS BIGINT) AS order_id,
    CAST((hash(i * 101) % 1000000 / 1000000.0) ** 2 * $products AS BIGINT) % $products
        AS product_id,
    CAST(1 + hash(i * 5) % 5 AS INTEGER) AS qty,
    CAST(1 + hash(i * 17) % 20000 / 100.0 AS DECIMAL(12, 2)) AS price
FROM range($items) AS t(i)
