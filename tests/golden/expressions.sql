-- Rows on which the expressions of expressions.txt are compared.
create table hostile as
select * from (values
  (7, 3, 2.50::decimal(10, 2), -1.25::double, 'Hello World', 'lo',
   timestamptz '2026-03-29 01:30:00+00', timestamp '2026-10-25 13:14:15.678', date '2026-02-28',
   '{"a": {"b": [1,2]}, "c":"x"}', [3, 1, 2], {'k': 1}, true, interval 2 day, time '10:11:12'),
  (-7, 2, -2.50, 3.5, 'straße É', 'a',
   timestamptz '2025-12-31 23:59:59+00', timestamp '2024-02-29 00:00:00', date '2024-02-29',
   '{}', [], {'k': null}, false, interval 90 minute, time '00:00:00'),
  (0, 0, null, 'nan'::double, '', '', null, null, null, null, null, null, null, null, null),
  (9, 4, 0.005::decimal(10, 2), 'infinity'::double, '  pad ', ' ',
   timestamptz '1969-12-31 23:00:00+00', timestamp '1900-01-01', date '1900-01-01',
   '[]', [null], {'k': 5}, true, interval 1 month, time '23:59:59.999')
) v(i, j, d, f, s, p, tz, ts, da, js, l, st, b, iv, tm);
