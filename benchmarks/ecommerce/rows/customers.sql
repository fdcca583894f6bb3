SELECT
    i AS customer_id,
    CAST(hash(i * 7) % $regions AS INTEGER) AS region_id,
    'cust_' || i AS name,
    ['smb', 'ent', 'consumer'][1 + CAST(hash(i) % 3 AS INTEGER)] AS segment
FROM range($customers) AS t(i)
