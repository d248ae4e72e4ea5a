//! `#[derive(Module)]` for networks that are compiled without a tensor library: it names each parameter by the
//! fields down to it, as Burn's derive of the same name does.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DataStruct, DeriveInput, Field, Fields, parse_macro_input};

/// Implements `Module` and `Clone` of the crate that holds the network.
///
/// A field with `#[module(skip)]` has no parameters. A variant of an enum holds one part or none.
#[proc_macro_derive(Module, attributes(module))]
pub fn module(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let name = &input.ident;
    let bodies = match &input.data {
        Data::Struct(data) => of_struct(data),
        Data::Enum(data) => of_enum(data),
        Data::Union(data) => Err(syn::Error::new(
            data.union_token.span,
            "a part of a network is a struct or an enum",
        )),
    };
    match bodies {
        Ok([each, clone]) => quote! {
            impl crate::values::held::Module for #name {
                fn each(
                    &mut self,
                    path: &str,
                    visit: &mut dyn FnMut(&str, crate::values::held::Place<'_>),
                ) {
                    #each
                }
            }

            impl ::core::clone::Clone for #name {
                fn clone(&self) -> Self {
                    #clone
                }
            }
        }
        .into(),
        Err(error) => error.to_compile_error().into(),
    }
}

/// The bodies of `each` and `clone`.
type Bodies = syn::Result<[proc_macro2::TokenStream; 2]>;

fn of_struct(data: &DataStruct) -> Bodies {
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(&data.fields, "the fields of a network have names"));
    };
    let names: Vec<_> = fields.named.iter().filter_map(|field| field.ident.as_ref()).collect();
    let parts = fields.named.iter().filter(|field| !is_skipped(field)).map(|field| {
        let ident = &field.ident;
        let name = ident.as_ref().map(ToString::to_string);
        quote!(crate::values::held::Module::each(
            &mut self.#ident,
            &crate::values::held::below(path, #name),
            visit,
        );)
    });
    // Without a field neither argument is used.
    let each = quote!(let _ = (path, &visit); #(#parts)*);
    let clone = quote!(Self { #(#names: ::core::clone::Clone::clone(&self.#names)),* });
    Ok([each, clone])
}

fn of_enum(data: &DataEnum) -> Bodies {
    let mut arms = [Vec::new(), Vec::new()];
    for variant in &data.variants {
        let ident = &variant.ident;
        match &variant.fields {
            Fields::Unit => {
                arms[0].push(quote!(Self::#ident => {}));
                arms[1].push(quote!(Self::#ident => Self::#ident));
            }
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                arms[0].push(quote!(Self::#ident(part) => {
                    crate::values::held::Module::each(part, path, visit);
                }));
                arms[1].push(quote!(
                    Self::#ident(part) => Self::#ident(::core::clone::Clone::clone(part))
                ));
            }
            other => {
                return Err(syn::Error::new_spanned(other, "a variant holds one part or none"));
            }
        }
    }
    let [each, clone] = arms;
    Ok([quote!(match self { #(#each)* }), quote!(match self { #(#clone),* })])
}

fn is_skipped(field: &Field) -> bool {
    let is_skip = |attribute: &syn::Attribute| {
        attribute.path().is_ident("module")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("skip"))
    };
    field.attrs.iter().any(is_skip)
}
