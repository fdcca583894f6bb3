-- Whether each daily file is here whole: the lines that the loader counted in it, and those that arrived.
-- key: file
-- owner: data

select
    f.name as file,
    f.sha256,
    f.lines as lines_in_file,
    count(l.id) as lines_here
from retail.loaded_files f
left join retail.invoice_lines l on l.file = f.name
group by all
