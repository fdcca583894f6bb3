SELECT
    i AS product_id,
    'prod_' || i AS name,
    'cat_' || hash(i * 13) % $categories AS category,
    CAST(1 + hash(i * 17) % 20000 / 100.0 AS DECIMAL(12, 2)) AS list_price
FROM range($products) AS t(i)
