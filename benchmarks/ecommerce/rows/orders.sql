-- One year of orders at an even pace: an order's number rises with its time.
SELECT
    i AS order_id,
    CAST(hash(i * 31) % $customers AS BIGINT) AS customer_id,
    TIMESTAMP '2026-01-01' + to_microseconds(CAST(i * (31536000000000 // $orders) AS BIGINT))
        AS order_ts,
    ['new', 'paid', 'shipped', 'done'][1 + CAST(hash(i * 3) % 4 AS INTEGER)] AS status
FROM range($orders) AS t(i)
