SELECT CAST(i AS INTEGER) AS region_id, 'region_' || i % 5 AS region
FROM range($regions) AS t(i)
