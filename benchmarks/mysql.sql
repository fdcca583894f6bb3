-- A table of twelve columns of the usual types, about 230 bytes a row in the log. The pool holds
-- what will be sold; it is filled unlogged, so that the log has the sales alone.

-- name: tables
create table sales (
    id          bigint primary key,
    order_id    bigint not null,
    customer_id int not null,
    sku         varchar(16) not null,
    description text,
    quantity    int not null,
    unit_price  decimal(12, 2) not null,
    discount    double,
    is_gift     tinyint(1) not null,
    reference   uuid not null,
    details     json not null,
    created_at  timestamp(6) not null
);
create table pool like sales;

-- name: pool
insert into pool
select
    id,
    id div 3,
    conv(left(digest, 7), 16, 10) % 100000,
    upper(substr(digest, 8, 10)),
    if(id % 50, concat('Article ', substr(digest, 3, 6 + id % 40), ' in a box'), null),
    1 + conv(substr(digest, 5, 2), 16, 10) % 9,
    conv(substr(digest, 7, 5), 16, 10) / 100,
    if(id % 4, null, conv(substr(digest, 11, 2), 16, 10) / 64),
    id % 11 = 0,
    concat(left(digest, 8), '-', substr(digest, 9, 4), '-4', substr(digest, 14, 3), '-8',
           substr(digest, 18, 3), '-', substr(digest, 21, 12)),
    json_object('colour', substr(digest, 2, 6), 'size', id % 40, 'notes', json_array(id % 7, id % 5)),
    timestamp '2026-01-01 00:00:00' + interval id * 1.7 second
from (select seq as id, md5(concat({seed}, seq)) as digest from seq_1_to_{rows}) as numbered;

-- name: sell
create procedure sell(total int, size int) begin
    declare number int default 1;
    while number <= total do
        insert into sales select * from pool where id >= number and id < number + size;
        commit;
        set number = number + size;
    end while;
end;
